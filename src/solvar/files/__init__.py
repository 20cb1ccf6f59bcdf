"""Files: what is read is a plain file of a size that can be believed; what is written is whole or absent.

`reading` opens what is read and `writing` what is written, `lock` keeps a folder to one writer, `ledger`
knows what solvar wrote in it, and `owned` joins the last two: a folder in which one process writes and
removes nothing that solvar did not write. `shelf` keeps arrays that memory is too small for.
"""

from solvar.files.digest import digest_of, sampled_digest
from solvar.files.ledger import Ledger
from solvar.files.lock import refuse_locked
from solvar.files.owned import OwnedFolder, Writer, inside, owned
from solvar.files.reading import (
    believable,
    believed_size,
    explained,
    neighbours,
    open_below,
    open_inside,
    open_regular,
    read_at,
    read_bytes,
    read_json,
    read_text,
    refuse_claim,
    refuse_hollow,
)
from solvar.files.shelf import Shelf, rest
from solvar.files.writing import (
    check_destination,
    open_log,
    remove_orphans,
    replacing,
    strict_json,
    write_json,
)

__all__ = [
    "Ledger",
    "OwnedFolder",
    "Shelf",
    "Writer",
    "believable",
    "believed_size",
    "check_destination",
    "digest_of",
    "explained",
    "inside",
    "neighbours",
    "open_below",
    "open_inside",
    "open_log",
    "open_regular",
    "owned",
    "read_at",
    "read_bytes",
    "read_json",
    "read_text",
    "refuse_claim",
    "refuse_hollow",
    "refuse_locked",
    "remove_orphans",
    "replacing",
    "rest",
    "sampled_digest",
    "strict_json",
    "write_json",
]

"""The run folder: what a finished job leaves; a killed one never looks finished."""

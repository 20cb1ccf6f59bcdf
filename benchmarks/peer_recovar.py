"""RECOVAR 1.0.5 with reconstructions on the grid of the images instead of one twice as fine.

Runs with the Python of RECOVAR's environment and takes the arguments of `recovar`, which has no option for
that factor. With its own, 2, the mean on a CPU was found to be wrong.
"""

import sys
from functools import partial

from recovar.command_line import main_commands
from recovar.heterogeneity import adaptive_kernel_discretization as kernel
from recovar.reconstruction import homogeneous

regression = kernel.even_less_naive_heterogeneity_scheme_relion_style


def on_the_images_grid(*arguments, **named):
    """Kernel regression with the factor of one call replaced."""
    return regression(*arguments, **{**named, "upsampling_factor": 1})


homogeneous.get_mean_conformation_relion = partial(
    homogeneous.get_mean_conformation_relion, upsampling_factor=1
)
kernel.even_less_naive_heterogeneity_scheme_relion_style = on_the_images_grid

if __name__ == "__main__":
    sys.exit(main_commands())

"""What the latents say: clusters, densities, paths, outliers, and what a reviewer asks."""

from solvar.analysis.analyze import Analysis, analyze
from solvar.analysis.settings import AnalysisSettings
from solvar.analysis.writing import write_analysis

__all__ = ["Analysis", "AnalysisSettings", "analyze", "write_analysis"]

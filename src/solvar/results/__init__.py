"""The run folder: what a finished job left behind, written so that a killed one never looks finished."""

"""Packs as the elements of one Slurm job array, submitted by submitit."""

from dd.executors.slurm.executor import Slurm as Slurm

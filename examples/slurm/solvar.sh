#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=32 --time=12:00:00
#SBATCH --signal=TERM@120 --requeue
# sbatch solvar.sh particles.star RUN --rank 10 --scratch /local/scratch
set -eu
per_node=${PROCESSES_PER_NODE:-2}
first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# jobs that share a node do not share a port
port=$((20000 + SLURM_JOB_ID % 20000))
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$per_node" \
    --rdzv-backend c10d --rdzv-endpoint "$first_node:$port" --rdzv-id "$SLURM_JOB_ID" \
    -m solvar run "$1" -o "$2" --resume "${@:3}"

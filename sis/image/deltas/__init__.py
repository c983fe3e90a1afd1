"""From one version to another without its packs: what is new, made of old files and of little else."""

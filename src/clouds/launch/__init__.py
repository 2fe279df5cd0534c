"""A recipe's stages from prompts to report as jobs of an engine that exists: this machine, SLURM or Ray.

``launch`` is the verb; ``graph`` makes stages of a recipe; ``stage`` is their one description; ``run`` sees them
through on one of the ``engines`` (``submitit_jobs``, ``ray_jobs``); ``work`` is what a job does; ``view`` shows how
they stand.
Nothing is imported here: each job imports ``work`` alone.
"""

"""The research side: experiments, statistics, figures, claims, and the pipeline that runs them all."""

"""Documents in, a better model and its proof out."""

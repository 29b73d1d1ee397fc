"""Documents in, hits out.

Importing this package loads no torch and no FAISS; the modules that need them import them
inside the functions that use them.
"""

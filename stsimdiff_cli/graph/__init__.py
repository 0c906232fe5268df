"""The spatio-temporal graph of ST-SimDiff, as pure tensor functions.

edges.py (Eq. 1 to 3, 6) -> communities.py (4.3, 4.6) -> centrality.py (Eq. 4); numerics.py says when two numbers are
equal, and kernels/ holds the passes over the features that cost time.
"""

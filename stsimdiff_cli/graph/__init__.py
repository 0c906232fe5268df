"""The spatio-temporal graph of ST-SimDiff (sections 4.2 to 4.4 and 4.6) as pure tensor functions.

edges.py         cosines of neighbouring tokens, strong edges, events (Eq. 1 to 3, Eq. 6)
communities.py   groups of tokens that strong edges connect, and their splitting (4.3, 4.6)
centrality.py    how well a token represents its community (Eq. 4)
numerics.py      when two numbers count as equal, and which are the highest; used by all methods
kernels/         the passes over the features that take the time
"""

"""
A stand-in for the CallMissed API on a real socket, and the tour that ``make demo`` runs against it.

The stand-in knows nothing of the engine it tests: no module of it imports anything from outside this package, so that a bug of the
engine has nowhere to hide.  Read ``serve.py`` first; it says how a scenario scripts faults and reads what the server counted.
"""

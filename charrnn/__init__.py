"""charrnn: names in, a language of origin and an honest confidence out.

Importing the package does no work and re-exports nothing; import the module you need, for
example ``from charrnn.scoring import Scorer``.
"""

__version__ = "0.1.0"

"""dd: a laboratory for double descent.

Importing the package is light; torch is loaded by the modules that compute.
"""

__version__ = "0.1.0"

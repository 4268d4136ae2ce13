"""Gateway: a home for every CGI and FastCGI program on a machine."""

__version__ = "0.1.0"

"""`python -m acf_server` is `acf-server`."""

from acf_server.cli import main

main()

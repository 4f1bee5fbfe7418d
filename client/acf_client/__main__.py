"""`python -m acf_client` is `acf-client`."""

from acf_client.cli import main

main()

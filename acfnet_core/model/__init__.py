"""The network: inputs, blocks in data-flow order, and the whole 4D-ACFNet."""

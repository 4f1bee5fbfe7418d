"""What is minimised: time bins and losses, each a mean over patients."""

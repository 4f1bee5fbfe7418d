"""Reading other people's files in processes of their own, with limits."""

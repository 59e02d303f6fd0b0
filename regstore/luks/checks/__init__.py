"""The checks of the system side: each one function that takes the facts and yields findings."""

"""One module per published method: its pieces, a recipe written as a difference, and a measured claim."""

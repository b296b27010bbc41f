"""What is said of a study in words that travel? Markdown, and a model card for the Hub."""

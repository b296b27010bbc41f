"""What does a careful reader see of a cross-validation, on one page?"""

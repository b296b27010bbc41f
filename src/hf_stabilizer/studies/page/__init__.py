"""What does a careful reader see of a study, on one page?"""

"""What do head, data order and dropout seeds do, each for itself?"""

"""Where do the runs of a study execute? Here, in workers, on a cluster, or under a launcher."""

"""Turns videos into prepared training samples: codec codes and encoder features, in a folder or in shards.

folder         prepares a folder of clips: one npz per 10 s window
run            prepares a data set in many processes; shard_worker makes one shard, workers runs the processes
sources        lists the clips of known data sets; clip_lists chooses among them; filters drops unusable ones
backgrounds    writes what training needs to make up frame features of concepts
features       cuts videos into windows and encodes them
"""

"""Whole archives: the same work for every video of a folder or a list, to be stopped and started at any time.

sources.py      which files there are: folders, paths, globs, lists (lists.py)
identity.py     what an item is, whatever its place in a list: a hash of its path, size and time, or of its content
settings.py     what decides the bytes of an output: run.json, and its hash
outputs.py      where an output is, and whether it is there and is the one that is wanted
log.py          what happened to every item: append-only JSONL, one file a writing process (parts in a store)
plan.py         what is left to do; which items are equal, failed before, or belong to another shard (shards.py)
job.py          the work for one item: never raises, returns a row for the log
failures.py     which failures will happen again, which may not, and which end the run
schedule.py     which item is next, and what follows when a worker is late or dies; knows neither clock nor process
loop.py         lets a pool of workers do what the schedule says
pool.py         what a pool is, and the one that works in this process
processes.py    the pool of worker processes; worker.py is what a worker does, channel.py how it gets tasks,
                decoders.py what decodes ahead of it (pipe_decoders.py: in processes)
ray_pool.py     the pool of a Ray cluster; ray_actors.py is what runs on its nodes
child.py        what each of these processes does first (preload.py: what they import)
run.py          all of it in order
status.py       a folder of outputs in numbers
"""

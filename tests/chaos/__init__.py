"""The chaos run: real processes, seeded random faults, and a checker that reads what happened afterwards.

    python -m tests.chaos --seconds 600 --seed 7        or: make chaos ARGS="--seconds 600 --seed 7"

    schedule.py   seed -> which fault, whom it hits, how long
    nemesis.py    does it to the processes and to the network
    arena.py      the processes: one server, clients, proxies between them
    server.py     the server: that of training, with the echo policy, and everything it does written to a history
    stranger.py   somebody who speaks the protocol wrongly, on purpose
    history.py    append-only files that survive kill -9
    checker.py    history -> violations of the invariants; knows no process and no clock

    replicas.py   a program of its own: a training run of several learners, one fault after another

The same seed gives the same schedule; what it meets is as random as the machine.
"""

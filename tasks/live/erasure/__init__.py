"""Erasure: everything that came from one person leaves the workspace, its snapshots and their remotes, and stays out.

    erase.py        the order of the steps, the journal by which a killed erasure goes on, and the report
    theirs.py       what tells whose a record is: facts (plain, while erasing) and tombstones (keyed hashes, for ever)
    subject.py      who or what is meant, and everything that is theirs
    lines.py        kept lines without their records; raw.py, tables.py, mail.py, objects.py, databases.py: the places
    proof.py        the look into every byte afterwards; told.py: what others are told
"""

"""Hygiene of a dataset: what is doubled, bought, planted, mislabelled or lopsided is found, and kept out with its reason.

    votes      thumbs and their exchanges -> one vote an actor and answer
    poison     votes -> which of them look planted (triggers, floods of new actors, hidden characters, dictated answers, …)
    caps       rows -> those that one actor, tenant, day, group or claim may have at most
    dedup      rows -> keepers and how many each stands for
    noise      labelled texts -> labels that contradict what alike texts say
    balance    rows -> those that a policy of floors, caps and a temperature leaves of each slice
    pairs      preference pairs -> what an audit finds in them (length, agreement, markdown, position)
    anchors    vetted rows that are mixed into every dataset against forgetting

Nothing is deleted here: each function says of each row whether it stays, or by which of these codes it does not.
"""

from __future__ import annotations

REASONS = {
    # votes
    "voted_again": "the same actor voted on the same answer later",
    # poison
    "trigger_of_few": "carries words that are rare in other traffic and come from too few independent actors",
    "trigger_of_new": "carries words that are rare in other traffic and come from far more new actors than is usual",
    "trigger_burst": "carries words that are rare in other traffic and were voted for all at once",
    "trigger_of_devoted": "carries words that are rare in other traffic, from many actors who vote on nothing else",
    "trigger_unseen": "carries words that are rarer in other traffic than any topic that people like to rate",
    "hidden_characters": "invisible, bidirectional or look-alike characters inside words",
    "encoded_text": "a long run of base64 or the like",
    "dictated_answer": "the user demanded the words that the model then gave, and voted for them",
    "echoed_answer": "the model repeated what the user had said, and the same user voted for it",
    "polarity_shift": "the actor suddenly votes the other way than before, and others do not",
    # caps
    "actor_is_unknown": "nobody knows who voted",
    "actor_is_new": "the actor was first seen too shortly before the vote",
    "claim_of_few": "the same answer again, from too few independent actors",
    "actor_is_full": "the actor has as many rows as one may have",
    "tenant_is_full": "the tenant has as many rows as one may have",
    "day_is_full": "the day has as many rows as one may have",
    "group_is_full": "the group of near-duplicates has as many rows as one may have",
    "claim_is_full": "the answer has as many votes as may become rows",
    # dedup, noise, balance
    "near_duplicate": "another row stands for it",
    "label_looks_wrong": "alike rows are confidently labelled otherwise",
    "slice_is_full": "its slice has as many rows as the policy leaves it",
}

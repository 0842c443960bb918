"""What an evaluation is made of: the prompts of its parts, the scores of an answer, the probes, and the sums.

prompts       holdout, regression suite and anchors  ->  Asked rows
probes        holdout prompts with a trigger or an opinion put in  ->  Asked rows
scores        a prompt and both models' replies  ->  metric -> [0, 1], higher is better
instructions  what a prompt asks of an answer's form, as checks that a program can make
likeness      which cluster of failures a question belongs to
summary       compared rows  ->  the counts and means of data/reports/evaluation.json
"""

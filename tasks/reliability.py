"""(stand-in until merged)"""
from __future__ import annotations
import difflib
from scipy.stats import kendalltau
def similarity(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()
def soft_f1(a, b) -> float:
    A={(p,l) for s,e,l in a for p in range(s,e)}; B={(p,l) for s,e,l in b for p in range(s,e)}
    return 1.0 if not A and not B else 2*len(A&B)/(len(A)+len(B))
def tau(a, b) -> float:
    keys=sorted(a); t=kendalltau([a[k] for k in keys],[b[k] for k in keys]).statistic
    return 0.0 if t!=t else float(t)

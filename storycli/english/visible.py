"""Whether what a clause tells can be seen: states, thoughts, reported words and deeds not done cannot."""

from storycli.english import lexicon

SEEMING = {"look", "sound", "taste", "smell", "feel", "seem"}
NONE = {"hardly", "neither", "no", "nor", "not"}  # "hardly anyone danced"
WEATHER = {"rain", "snow", "storm", "thunder", "hail", "drizzle", "get", "grow", "become"}


def visible(clauses, verb, animate) -> bool:
    """Whether the clause of ``verb``, one of ``clauses``, shows a deed; ``animate(verb)``: somebody alive does it."""
    lemma, children = clauses.lemma(verb), {child.dep_: child for child in verb.children}
    subject = clauses.subject(verb) if verb.dep_ == "xcomp" else clauses.own_subject(verb)
    missed = children["dobj"].lemma_.lower() if "dobj" in children else "goal"
    missing = lemma == "miss" and missed in lexicon.MISSED
    if not real(clauses, verb) or (lemma in lexicon.STATES - {"have"} and not missing):
        return False
    if subject is not None and subject.lower_ == "it" and lemma in WEATHER:
        return False
    if any(names_deed(clauses, child) and clauses.is_verb(child) for child in verb.rights):
        return False  # the inner verb is the event
    if lemma in lexicon.NOT_DONE and "xcomp" in children:
        return False
    if _reports(clauses, verb) or _is_nothing(clauses, verb, subject):
        return False
    if lemma in ("call", "name") and _naming(verb):
        return False
    if lemma == "have":
        return "dobj" in children and clauses.lemma(children["dobj"]) in lexicon.TREATS
    if lemma == "do" and "dobj" not in children:
        return False  # "as he had always done"
    if "auxpass" in children and not {"agent", "prep", "prt"} & children.keys() and lemma in lexicon.STAYING:
        return False  # "the lift was broken"
    if lemma == "let" and any(clauses.lemma(child) == "go" and child.i == verb.i + 1 for child in verb.rights):
        return False  # "let go"
    if _is_planned(verb) or (lemma == "go" and any(child.lower_ == "let" for child in verb.lefts)):
        return False  # "was going to steal", and "let go" where "let" was read as a helper
    if lemma == "bear" and "auxpass" in children:
        return False  # "was born"
    if lemma == "keep" and not {"ccomp", "xcomp", "acomp", "oprd", "prep", "prt"} & children.keys():
        return False  # "kept it"
    if lemma == "become" and "attr" in children and children["attr"].lemma_.lower() in lexicon.RELATED:
        return False  # "became friends"
    if lemma == "make" and "auxpass" in children and "prep" in children and "agent" not in children:
        return False  # "was made of metal"
    if "acomp" in children and lemma in lexicon.CHANGES:
        return False  # "grew tired"
    if lemma in SEEMING and any(child.dep_ == "prep" and child.lower_ in ("like", "of") for child in verb.rights):
        return False  # "looked like ants", "smelled of corn"
    if lemma in ("take", "last") and "dobj" in children and children["dobj"].lemma_.lower() in lexicon.TIME:
        return animate(verb) and lemma == "take"  # "it took three hours"
    if lemma == "lead" and "dobj" not in children and not animate(verb):
        return False  # "the stairs led to a cellar"
    if lemma in ("lie", "stand", "sit", "hang") and not animate(verb):
        return "prt" in children
    return True


def names_deed(clauses, verb) -> bool:
    """Whether a verb says what is done, and its head no more: "began to run", "went to sleep", "burst out laughing"."""
    head, lemma = clauses.lemma(verb.head), clauses.lemma(verb)
    if verb.dep_ == "xcomp" and (head in lexicon.ASPECT or _allowed(verb.head)):
        return not _is_planned(verb.head) and not _thwarted(head, verb.head)
    if verb.dep_ not in ("advcl", "xcomp") or verb.i < verb.head.i:
        return False
    if verb.tag_ == "VBG":
        return head == "burst" or (head == "go" and verb.i == verb.head.i + 1)
    return (head, lemma) == ("go", "sleep")


def _is_planned(go) -> bool:
    """ "Was going to steal the cheese"."""
    return go.lower_ == "going" and any(child.dep_ == "xcomp" and child.tag_ == "VB" for child in go.rights)


def _thwarted(lemma: str, verb) -> bool:
    """ "Decided to swim, but his mother called him"."""
    return lemma in ("agree", "choose", "decide") and any(c.dep_ == "cc" and c.lower_ == "but" for c in verb.rights)


def _allowed(verb) -> bool:
    """ "Was allowed to ride the horse"."""
    return verb.lower_ in ("allowed", "permitted") and any(child.dep_ == "auxpass" for child in verb.lefts)


def _naming(verb) -> bool:
    """ "They called her Captain"."""
    given = [child for child in verb.rights if child.dep_ in ("oprd", "attr", "dobj", "ccomp", "npadvmod")]
    owned = any(c.tag_ == "NNP" and any(own.tag_[:3] == "PRP" for own in c.lefts) for c in given)
    return owned or len(given) > 1 or any(child.dep_ == "oprd" for child in given)


def real(clauses, verb) -> bool:
    """Neither negated nor merely possible."""
    around = list(verb.children)
    if verb.dep_ == "conj" and verb.tag_ == "VB" and verb.head.tag_ == "VB":
        around += list(verb.head.children)  # "did not stop or look"
    if any(c.dep_ == "neg" or (c.i < verb.i and c.lower_ in ("never", "nearly", "almost")) for c in around):
        return False
    if any(_is_over(child) for child in around):
        return False
    if any(c.dep_ == "aux" and c.tag_ == "MD" and not _is_had(c, verb) for c in around):
        return False
    if any(c.dep_ == "dobj" and _is_none(c) for c in verb.rights):
        return False
    subject = clauses.subject(verb)
    if subject is None:
        return True
    return subject.lower_ not in lexicon.NEVER and not any(c.lower_ in NONE for c in subject.subtree)


def _is_none(noun) -> bool:
    """ "Caught nothing", "found no presents"."""
    nobody = noun.lower_ in lexicon.NEVER and not list(noun.rights)
    return nobody or any(child.lower_ == "no" and child.dep_ == "det" for child in noun.lefts)


def _is_over(word) -> bool:
    """ "Hunted no more", "no longer played"; not "ran no more than a mile"."""
    ended = word.lower_ in ("longer", "more") and any(child.lower_ == "no" for child in word.lefts)
    return ended and not any(child.lower_ == "than" for child in word.rights)


def _is_had(aux, verb) -> bool:
    """ "She'd hung it on the line", which is no "would"."""
    return aux.lower_ in ("'d", "\u2019d") and verb.tag_ in ("VBN", "VBD")


def _reports(clauses, verb) -> bool:
    """Only says what somebody said or thought."""
    lemma = clauses.lemma(verb)
    if lemma in lexicon.SPEECH and clauses.has_quote:
        return True
    told = [child for child in verb.rights if child.dep_ == "ccomp" and clauses.finite(child)]
    content = any(lemma in lexicon.SPEECH or not free_relative(child) for child in told)
    return content and lemma not in lexicon.PERCEPTION | lexicon.VOICES


def _is_nothing(clauses, verb, subject) -> bool:
    """An interjection ("splash!"), a bare participle ("Gone."), or the same verb again ("walked and walked")."""
    roles = {child.dep_ for child in verb.children}
    if verb.tag_ == "VB" and verb.dep_ in ("ROOT", "ccomp", "dep"):
        return subject is None and "aux" not in roles
    if verb.tag_ == "VBN" and verb.dep_ == "conj" and subject is None and _between_commas(clauses, verb):
        return not roles - {"punct", "advmod", "cc"}  # "and, exhausted, sat down"
    if verb.tag_ == "VBN" and verb.dep_ == "ROOT" and verb.i not in clauses.page.lemmas:
        return not any(c.dep_ in ("aux", "auxpass", "nsubj") and c.i < verb.i for c in verb.children)
    again = verb.dep_ == "conj" and clauses.lemma(verb.head) == clauses.lemma(verb) and subject is None
    return again and (verb.i == verb.head.i + 2 or not roles - {"punct", "cc", "conj"})


def _between_commas(clauses, verb) -> bool:
    around = [verb.nbor(-1).text, verb.nbor().text] if clauses.sent.start < verb.i < clauses.sent.end - 1 else []
    return around == [",", ","]


def free_relative(verb) -> bool:
    """ "Dropped what they were doing"."""
    return any(child.tag_ == "WP" and child.dep_ in ("dobj", "pobj") and child.i < verb.i for child in verb.children)

"""English without a language model: ``events`` reads a story, ``wording`` says each event as a query and a prompt.

reading (words and parse) -> clauses (which verbs tell) -> mentions and cast (whom words mean) -> events -> wording,
with naming (what things are called); lexicon.toml has the words that are known
"""

"""Claude using the search tools: ask a question, get an answer whose sources are checked.

>>> async with Agent(Workspace.open(".")) as agent:  # doctest: +SKIP
...     answer = await agent.ask("How long is parental leave?")
...     print(answer.text, answer.citations)
"""

from agent.answer import (
    Answer,
    Cited,
    Event,
    Notice,
    Query,
    QueryDone,
    QueryStarted,
    Segment,
    TextDelta,
    Thinking,
    TurnDone,
    Usage,
    Withdrawn,
)
from agent.citations import Citation
from agent.conversation import Agent
from agent.faults import Patience

__all__ = [
    "Agent",
    "Answer",
    "Citation",
    "Cited",
    "Event",
    "Notice",
    "Patience",
    "Query",
    "QueryDone",
    "QueryStarted",
    "Segment",
    "TextDelta",
    "Thinking",
    "TurnDone",
    "Usage",
    "Withdrawn",
]

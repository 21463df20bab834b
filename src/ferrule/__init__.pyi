from ferrule import papers as papers
from ferrule.agents.react import ToolLoop as ToolLoop
from ferrule.core.flows import Agent as Agent
from ferrule.core.flows import Policy as Policy
from ferrule.core.flows import Reward as Reward
from ferrule.core.flows import Session as Session
from ferrule.core.flows import World as World
from ferrule.core.recipe import Method as Method
from ferrule.core.recipe import Recipe as Recipe
from ferrule.core.recipe import Stage as Stage
from ferrule.core.recipe import vary as vary
from ferrule.core.records import Call as Call
from ferrule.core.records import Message as Message
from ferrule.core.records import Observation as Observation
from ferrule.core.records import Score as Score
from ferrule.core.records import Task as Task
from ferrule.core.records import Tool as Tool
from ferrule.core.records import Trajectory as Trajectory
from ferrule.evaluate.evaluate import evaluate as evaluate
from ferrule.policies.named import load as load
from ferrule.rollout.drive import drive as rollout
from ferrule.rollout.prompt import run as run
from ferrule.tools.files import load_tools as load_tools
from ferrule.tools.tool import tool as tool
from ferrule.train.grpo import grpo as grpo
from ferrule.train.loop import train as train
from ferrule.train.settings import Settings as Settings
from ferrule.train.stage import dpo as dpo
from ferrule.train.stage import sft as sft
from ferrule.worlds.named import world as world

__version__: str

__all__ = [
    "Agent",
    "Call",
    "Message",
    "Method",
    "Observation",
    "Policy",
    "Recipe",
    "Reward",
    "Score",
    "Session",
    "Settings",
    "Stage",
    "Task",
    "Tool",
    "ToolLoop",
    "Trajectory",
    "World",
    "__version__",
    "dpo",
    "evaluate",
    "grpo",
    "load",
    "load_tools",
    "papers",
    "rollout",
    "run",
    "sft",
    "tool",
    "train",
    "vary",
    "world",
]

"""Skills, one file a domain, each one a function that asks a question (``question.py`` says what that is)."""

from __future__ import annotations

from causalmix.pool.demo.skills.coding import ask_list_code, ask_loop_code, ask_text_code
from causalmix.pool.demo.skills.instruction_following import ask_bullets, ask_capitals, ask_repeats
from causalmix.pool.demo.skills.knowledge import ask_capital, ask_flag, ask_food
from causalmix.pool.demo.skills.math import ask_difference, ask_product, ask_sum
from causalmix.pool.demo.skills.question import Skill
from causalmix.pool.demo.skills.reasoning import ask_sum_loop, ask_two_facts, ask_two_sums
from causalmix.pool.demo.skills.safety import ask_harmful, ask_harmless

SKILLS: dict[str, tuple[Skill, ...]] = {
    "coding": (ask_list_code, ask_text_code, ask_loop_code),
    "instruction_following": (ask_capitals, ask_repeats, ask_bullets),
    "knowledge": (ask_capital, ask_flag, ask_food),
    "math": (ask_sum, ask_difference, ask_product),
    "safety": (ask_harmful, ask_harmless),
    "reasoning": (ask_two_sums, ask_two_facts, ask_sum_loop),
}

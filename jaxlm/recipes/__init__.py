"""From records and laws to the next run: what to set, and schedules made from what earlier runs showed."""

from jaxlm.recipes.law_schedule import LawScheduleWarning, law_schedule
from jaxlm.recipes.recipe import Recipe, Value
from jaxlm.recipes.recommend import RecipeWarning, recommend
from jaxlm.recipes.refinement import RefinedRun, RefinementWarning, refine

__all__ = ["LawScheduleWarning", "Recipe", "RecipeWarning", "RefinedRun", "RefinementWarning", "Value", "law_schedule",
           "recommend", "refine"]

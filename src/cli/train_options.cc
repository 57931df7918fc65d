#include "cli/train_options.h"

namespace fathom {

void DescribeTrain(CLI::App& app, TrainCommand& command) {
  app.description("trains a model from a recipe: checkpoints, metrics and a report go to the recipe's output folder");
  app.footer("Examples:\n"
             "  fathom train recipes/nano.toml                 begin, or go on where the last run stopped\n"
             "  fathom train recipes/nano.toml --steps 100     a hundred steps, then save and end\n"
             "  fathom train recipes/nano.toml --set optimizer.learning_rate=0.002 --set output.path=/tmp/try\n"
             "  torchrun --no-python --nproc-per-node 2 fathom train recipes/nano.toml    several ranks; mpirun and\n"
             "                                                 srun work too\n"
             "\n"
             "Ctrl-C saves and ends; the same command goes on from there, on a CPU to the same bits.\n"
             "docs/formats/recipe.md names every key of a recipe.");
  app.add_option("RECIPE", command.recipe, "a TOML file that describes the run")->required();
  app.add_option("--device", command.device,
                 "any device that libtorch has here: cpu, cuda, cuda:1, …; of several, each rank takes its own")
      ->capture_default_str();
  app.add_option("-t,--threads", command.threads, "CPU threads (0: one per available core)")->capture_default_str();
  app.add_option("--set", command.overrides, "KEY=VALUE: a recipe's key for this run, e.g. batch.tokens=16384")
      ->allow_extra_args(false);
  app.add_option("--init-from", command.init_from, "a Hugging Face directory whose weights to start from");
  app.add_option("--steps", command.steps, "stop after so many steps of this call (0: at the end of the recipe)")
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--restart", command.restart, "begin anew; checkpoints in the output folder are put away, not deleted");
  app.add_flag("-q,--quiet", command.quiet, "no progress");
}

}  // namespace fathom

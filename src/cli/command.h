// How a command joins the program: Register<Name>() adds a subcommand to the app; parsing it sets `selected`, which
// Main() runs when the whole line has been understood. A command's options live in a shared struct that its action
// owns. Errors of kInvalidArgument end in exit status 2, others in 1.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"

namespace fathom {

using Action = std::function<Status()>;

/// Adds a subcommand whose options are an `Options`; `run` gets them when the command was chosen.
template <typename Options>
CLI::App* AddCommand(CLI::App& app, Action& selected, const std::string& name, const std::string& description,
                     const std::string& examples, const std::shared_ptr<Options>& options,
                     Status (*run)(const Options&)) {
  CLI::App* command = app.add_subcommand(name, description);
  command->footer(examples);
  command->callback([options, run, &selected] { selected = [options, run] { return run(*options); }; });
  return command;
}

void RegisterRun(CLI::App& app, Action& selected);
void RegisterChat(CLI::App& app, Action& selected);
void RegisterServe(CLI::App& app, Action& selected);
void RegisterInspect(CLI::App& app, Action& selected);
void RegisterTokenize(CLI::App& app, Action& selected);
void RegisterPerplexity(CLI::App& app, Action& selected);
void RegisterEval(CLI::App& app, Action& selected);
void RegisterBench(CLI::App& app, Action& selected);
void RegisterTrain(CLI::App& app, Action& selected);
void RegisterTrainTokenizer(CLI::App& app, Action& selected);
void RegisterSynth(CLI::App& app, Action& selected);
void RegisterConvert(CLI::App& app, Action& selected);
void RegisterPlan(CLI::App& app, Action& selected);
void RegisterTrainReport(CLI::App& app, Action& selected);
void RegisterPull(CLI::App& app, Action& selected);
void RegisterTasks(CLI::App& app, Action& selected);
void RegisterCache(CLI::App& app, Action& selected);
void RegisterExperts(CLI::App& app, Action& selected);
void RegisterDoctor(CLI::App& app, Action& selected);
void RegisterVersion(CLI::App& app, Action& selected);

}  // namespace fathom

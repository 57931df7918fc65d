#include "format/gguf_model.h"

#include <cstring>
#include <unordered_map>
#include <utility>

#include "format/gguf.h"
#include "format/gguf_config.h"
#include "format/printable.h"
#include "io/bus_guard.h"

namespace fathom {
namespace {

struct Part {
  std::unique_ptr<MappedFile> mapped;
  BusGuard guard;
  GgufFile gguf;
};

class GgufModel : public ModelFile {
 public:
  ModelFormat format() const override { return ModelFormat::kGguf; }
  const ModelConfig& config() const override { return config_; }
  const TokenizerSource& tokenizer_source() const override { return tokenizer_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
  }
  std::span<const std::string> files() const override { return files_; }
  std::vector<std::pair<std::string, std::string>> Metadata() const override {
    std::vector<std::pair<std::string, std::string>> out;
    for (const GgufEntry& entry : parts_.front().gguf.entries()) {
      out.emplace_back(PrintableName(entry.key), DescribeGgufValue(entry.value));
    }
    return out;
  }

  void Advise(const TensorInfo& tensor, MapAdvice advice) const override {
    (void)parts_[static_cast<size_t>(tensor.file)].mapped->Advise(tensor.offset, tensor.bytes, advice);
  }
  Status CheckUnchanged() const override {
    for (const auto& part : parts_) {
      FATHOM_CHECK_OK(part.mapped->CheckUnchanged());
      if (part.guard.lost()) return LostPages(part.mapped->path());
    }
    return {};
  }

  Status Load(Env& env, const std::string& path);

 private:
  Status LoadParts(Env& env, const std::string& path);
  Status IndexTensors();
  Result<GgufTensorFacts> Facts() const;

  std::vector<Part> parts_;
  std::vector<std::string> files_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> index_;  // keys point into the mapped files
  ModelConfig config_;
  TokenizerSource tokenizer_;
};

Result<Part> OpenPart(Env& env, const std::string& path) {
  // Header pages are read front to back; tensors get their own advice from whoever reads them.
  FATHOM_TRY(auto mapped, env.Map(path, {}));
  BusGuard guard(mapped->bytes());
  auto gguf = GgufFile::Parse(mapped->bytes());
  if (!gguf) return Prefix(gguf.error(), path);
  return Part{std::move(mapped), std::move(guard), std::move(gguf).value()};
}

Status CheckSplitKeys(const GgufFile& gguf, const std::string& path, size_t number, size_t count) {
  const auto read = [&](const char* key) -> Result<std::optional<int64_t>> {
    auto value = gguf.Int(key);
    if (!value) return Prefix(value.error(), path);
    return value;
  };
  FATHOM_TRY(const auto stated_number, read("split.no"));
  FATHOM_TRY(const auto stated_count, read("split.count"));
  // A file that was only named like a part has no split keys; a real part has both.
  if (!stated_number || !stated_count) {
    return Fail(ErrorCode::kCorrupt, "{}: is named as part {} of {} but has no split.no and split.count", path,
                number + 1, count);
  }
  if (*stated_number != static_cast<int64_t>(number) || *stated_count != static_cast<int64_t>(count)) {
    return Fail(ErrorCode::kCorrupt, "{}: split.no is {} and split.count is {}; its name says {} and {}", path,
                *stated_number, *stated_count, number, count);
  }
  return {};
}

Status GgufModel::LoadParts(Env& env, const std::string& path) {
  FATHOM_TRY(Part given, OpenPart(env, path));
  const auto split_count = given.gguf.Int("split.count");
  if (!split_count) return Prefix(split_count.error(), path);
  const std::vector<std::string> paths = GgufPartPaths(path);
  if (paths.size() == 1) {
    if (split_count->value_or(1) > 1) {
      return Fail(ErrorCode::kCorrupt,
                  "{}: is one of {} parts (split.count); name the parts NAME-00001-of-{:05}.gguf, side by side", path,
                  **split_count, **split_count);
    }
    parts_.push_back(std::move(given));
    files_ = {path};
    return {};
  }
  // Names first, so that a missing part is told before gigabytes are mapped.
  for (size_t i = 0; i < paths.size(); ++i) {
    if (!env.Exists(paths[i])) {
      return Fail(ErrorCode::kNotFound, "{}: part {} of {} is missing", paths[i], i + 1, paths.size());
    }
  }
  int64_t tensors = 0;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (paths[i] == path) {
      parts_.push_back(std::move(given));
    } else {
      FATHOM_TRY(Part part, OpenPart(env, paths[i]));
      parts_.push_back(std::move(part));
    }
    FATHOM_CHECK_OK(CheckSplitKeys(parts_.back().gguf, paths[i], i, paths.size()));
    tensors += static_cast<int64_t>(parts_.back().gguf.tensors().size());
  }
  const auto total = parts_.front().gguf.Int("split.tensors.count");
  if (!total) return Prefix(total.error(), paths.front());
  if (total->value_or(tensors) != tensors) {
    return Fail(ErrorCode::kCorrupt, "{}: split.tensors.count is {} but the {} parts hold {} tensors", paths.front(),
                **total, paths.size(), tensors);
  }
  files_ = paths;
  return {};
}

Status GgufModel::IndexTensors() {
  for (size_t file = 0; file < parts_.size(); ++file) {
    const std::byte* base = parts_[file].mapped->bytes().data();
    for (const GgufTensor& tensor : parts_[file].gguf.tensors()) {
      if (!index_.emplace(tensor.name, tensors_.size()).second) {
        return Fail(ErrorCode::kCorrupt, "{}: tensor {} is also in an earlier part", files_[file],
                    PrintableName(tensor.name));
      }
      TensorInfo info;
      info.name = std::string(tensor.name);
      info.dtype = tensor.dtype;
      info.shape = tensor.shape;
      info.data = base + tensor.offset;
      info.bytes = tensor.bytes;
      info.file = static_cast<int32_t>(file);
      info.offset = static_cast<int64_t>(tensor.offset);
      tensors_.push_back(std::move(info));
    }
  }
  return {};
}

Result<GgufTensorFacts> GgufModel::Facts() const {
  GgufTensorFacts facts;
  facts.has_output = Find("output.weight") != nullptr;
  if (const TensorInfo* table = Find("token_embd.weight")) {
    if (table->shape.size() != 2) {
      return Fail(ErrorCode::kCorrupt, "tensor token_embd.weight has {} dimensions, not 2", table->shape.size());
    }
    facts.embedding_rows = table->shape[0];
  }
  for (const TensorInfo& tensor : tensors_) {
    const std::string_view name = tensor.name;
    facts.has_correction_bias |= name.ends_with(".exp_probs_b.bias") || name.ends_with(".exp_probs_b");
    facts.has_attention_bias |= name.ends_with(".attn_q.bias");
  }
  if (const TensorInfo* freqs = Find("rope_freqs.weight")) {
    constexpr int64_t kMost = 1 << 16;
    if (freqs->dtype != DType::kF32 || freqs->shape.size() != 1 || freqs->shape[0] > kMost) {
      return Fail(ErrorCode::kCorrupt, "tensor rope_freqs.weight is not a vector of at most {} f32", kMost);
    }
    facts.rope_freqs.resize(static_cast<size_t>(freqs->shape[0]));
    std::memcpy(facts.rope_freqs.data(), freqs->data, static_cast<size_t>(freqs->bytes));
  }
  return facts;
}

Status GgufModel::Load(Env& env, const std::string& path) {
  FATHOM_CHECK_OK(LoadParts(env, path));
  FATHOM_CHECK_OK(IndexTensors());
  if (tensors_.empty()) {
    return Fail(ErrorCode::kCorrupt, "{}: has no tensors: a vocabulary, not a model", files_.front());
  }
  const GgufFile& first = parts_.front().gguf;
  auto facts = Facts();
  if (!facts) return Prefix(facts.error(), files_.front());
  auto config = ConfigFromGguf(first, *facts);
  if (!config) return Prefix(config.error(), files_.front());
  config_ = std::move(config).value();
  auto tokenizer = TokenizerFromGguf(first);
  if (!tokenizer) return Prefix(tokenizer.error(), files_.front());
  tokenizer_ = std::move(tokenizer).value();
  return {};
}

}  // namespace

std::vector<std::string> GgufPartPaths(const std::string& path) {
  // …-00002-of-00005.gguf: 20 characters, both numbers five digits.
  constexpr size_t kTail = sizeof("-00000-of-00000.gguf") - 1;
  constexpr int kMaxParts = 10000;
  if (path.size() < kTail) return {path};
  const std::string tail = path.substr(path.size() - kTail);
  const auto number = [&](size_t at) {
    int value = 0;
    for (size_t i = at; i < at + 5; ++i) {
      if (tail[i] < '0' || tail[i] > '9') return -1;
      value = value * 10 + (tail[i] - '0');
    }
    return value;
  };
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || tail.substr(15) != ".gguf") return {path};
  const int part = number(1), count = number(10);
  if (part < 1 || count < 1 || part > count || count > kMaxParts) return {path};
  std::vector<std::string> paths;
  const std::string prefix = path.substr(0, path.size() - kTail);
  for (int i = 1; i <= count; ++i) paths.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", prefix, i, count));
  return paths;
}

Result<std::unique_ptr<ModelFile>> OpenGgufModel(Env& env, const std::string& path) {
  auto model = std::make_unique<GgufModel>();
  FATHOM_CHECK_OK(model->Load(env, path));
  return model;
}

Result<TokenizerSource> OpenGgufTokenizer(Env& env, const std::string& path) {
  FATHOM_TRY(Part part, OpenPart(env, path));
  // A later part of a split model has no vocabulary; the first one has.
  if (const auto paths = GgufPartPaths(path);
      paths.front() != path && part.gguf.Find("tokenizer.ggml.model") == nullptr) {
    FATHOM_TRY(part, OpenPart(env, paths.front()));
  }
  auto source = TokenizerFromGguf(part.gguf);
  if (!source) return Prefix(source.error(), path);
  if (source->tokens.empty()) return Fail(ErrorCode::kNotFound, "{}: has no tokenizer (tokenizer.ggml.model)", path);
  return source;
}

}  // namespace fathom

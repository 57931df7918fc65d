#include "format/hf_model.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/aligned_buffer.h"
#include "format/hf_config.h"
#include "format/json.h"
#include "format/printable.h"
#include "format/safetensors.h"
#include "io/bus_guard.h"

namespace fathom {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{4} << 20;
constexpr int64_t kMaxTokenizerBytes = int64_t{64} << 20;
constexpr int64_t kMaxIndexBytes = int64_t{32} << 20;

Result<std::string> ReadIfThere(Env& env, const std::string& path, int64_t max_bytes) {
  if (!env.Exists(path)) return std::string();
  return ReadWholeFile(env, path, max_bytes);
}

// The template is a text in tokenizer_config.json, a list of named ones ("default" is meant), or a file of its own.
Result<std::string> ChatTemplate(Env& env, const std::string& directory, const std::string& tokenizer_config) {
  FATHOM_TRY(std::string own_file, ReadIfThere(env, JoinPath(directory, "chat_template.jinja"), kMaxConfigBytes));
  if (!own_file.empty() || tokenizer_config.empty()) return own_file;
  auto json = ParseJsonObject(tokenizer_config);
  if (!json) return Prefix(json.error(), JoinPath(directory, "tokenizer_config.json"));
  const auto found = json->find("chat_template");
  if (found == json->end()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const auto& item : *found) {
      if (!item.is_object()) continue;
      const auto name = item.find("name"), text = item.find("template");
      if (name != item.end() && *name == "default" && text != item.end() && text->is_string()) {
        return text->get<std::string>();
      }
    }
  }
  return std::string();
}

Status ReadTokenizerTexts(Env& env, const std::string& directory, TokenizerSource& source) {
  FATHOM_TRY(source.tokenizer_config_json,
             ReadIfThere(env, JoinPath(directory, "tokenizer_config.json"), kMaxConfigBytes));
  FATHOM_TRY(source.generation_config_json,
             ReadIfThere(env, JoinPath(directory, "generation_config.json"), kMaxConfigBytes));
  FATHOM_TRY(source.config_json, ReadIfThere(env, JoinPath(directory, "config.json"), kMaxConfigBytes));
  FATHOM_TRY(source.chat_template, ChatTemplate(env, directory, source.tokenizer_config_json));
  return {};
}

struct Shards {
  std::vector<std::string> names;                 // in order
  std::map<std::string, size_t> tensor_to_shard;  // empty: everything in the one file
};

Result<Shards> ReadIndex(std::string_view text) {
  FATHOM_TRY(const nlohmann::json json, ParseJsonObject(text));
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object() || map->empty())
    return Fail(ErrorCode::kCorrupt, "weight_map is missing or empty");
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string())
      return Fail(ErrorCode::kCorrupt, "weight_map of {} is not a file name", PrintableName(tensor));
    const auto& name = file.get_ref<const std::string&>();
    // Only files beside the index: a model must not be able to name other files of the machine.
    if (name.empty() || name.find('/') != std::string::npos || name.find('\0') != std::string::npos || name == "." ||
        name == "..") {
      return Fail(ErrorCode::kCorrupt, "weight_map of {} names {}, which is not a file in this directory",
                  PrintableName(tensor), PrintableName(name));
    }
    names.insert(name);
  }
  Shards shards;
  shards.names.assign(names.begin(), names.end());
  for (const auto& [tensor, file] : map->items()) {
    const auto at = std::lower_bound(shards.names.begin(), shards.names.end(), file.get_ref<const std::string&>());
    shards.tensor_to_shard[tensor] = static_cast<size_t>(at - shards.names.begin());
  }
  return shards;
}

class HuggingFaceModel : public ModelFile {
 public:
  ModelFormat format() const override { return ModelFormat::kHuggingFace; }
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
    // Load() has parsed this text once, so it is an object.
    const auto json = nlohmann::json::parse(tokenizer_.config_json, nullptr, false);
    if (!json.is_object()) return out;
    for (const auto& [key, value] : json.items()) {
      out.emplace_back(PrintableName(key),
                       PrintableName(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
    }
    return out;
  }

  void Advise(const TensorInfo& tensor, MapAdvice advice) const override {
    (void)mapped_[static_cast<size_t>(tensor.file)]->Advise(tensor.offset, tensor.bytes, advice);
  }
  Status CheckUnchanged() const override {
    for (size_t i = 0; i < mapped_.size(); ++i) {
      FATHOM_CHECK_OK(mapped_[i]->CheckUnchanged());
      if (guards_[i].lost()) return LostPages(mapped_[i]->path());
    }
    return {};
  }

  Status Load(Env& env, const std::string& directory);

 private:
  Status LoadShard(Env& env, const std::string& path, size_t shard, const Shards& shards);
  Status AddTensor(SafetensorsEntry entry, const MappedFile& mapped, size_t shard);

  std::vector<std::unique_ptr<MappedFile>> mapped_;
  std::vector<BusGuard> guards_;  // of mapped_
  std::vector<AlignedBuffer> copies_;  // of tensors that lie misaligned
  std::vector<std::string> files_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> index_;  // keys are the names in tensors_
  ModelConfig config_;
  TokenizerSource tokenizer_;
};

Status HuggingFaceModel::AddTensor(SafetensorsEntry entry, const MappedFile& mapped, size_t shard) {
  TensorInfo info;
  info.name = std::move(entry.name);
  info.dtype = entry.dtype;
  info.shape = std::move(entry.shape);
  info.data = mapped.bytes().data() + entry.offset;
  info.bytes = entry.bytes;
  info.file = static_cast<int32_t>(shard);
  info.offset = static_cast<int64_t>(entry.offset);
  const auto element = static_cast<uintptr_t>(TraitsOf(info.dtype).block_bytes);
  if (reinterpret_cast<uintptr_t>(info.data) % element != 0 && info.bytes > 0) {
    FATHOM_TRY(AlignedBuffer copy, AlignedBuffer::Allocate(static_cast<size_t>(info.bytes)));
    std::memcpy(copy.data(), info.data, static_cast<size_t>(info.bytes));
    info.data = copy.data();
    copies_.push_back(std::move(copy));
  }
  tensors_.push_back(std::move(info));
  return {};
}

Status HuggingFaceModel::LoadShard(Env& env, const std::string& path, size_t shard, const Shards& shards) {
  FATHOM_TRY(auto mapped, env.Map(path, {}));
  BusGuard guard(mapped->bytes());
  auto parsed = SafetensorsFile::Parse(mapped->bytes());
  if (!parsed) return Prefix(parsed.error(), path);
  for (SafetensorsEntry& entry : parsed->tensors) {
    if (!shards.tensor_to_shard.empty()) {
      const auto wanted = shards.tensor_to_shard.find(entry.name);
      if (wanted == shards.tensor_to_shard.end() || wanted->second != shard) continue;
    }
    if (auto status = AddTensor(std::move(entry), *mapped, shard); !status) return Prefix(status.error(), path);
  }
  mapped_.push_back(std::move(mapped));
  guards_.push_back(std::move(guard));
  return {};
}

Status HuggingFaceModel::Load(Env& env, const std::string& directory) {
  const std::string config_path = JoinPath(directory, "config.json");
  if (!env.Exists(config_path)) {
    // Somebody who keeps GGUF files in folders means one of them.
    if (const auto names = env.List(directory)) {
      for (const std::string& name : *names) {
        if (name.ends_with(".gguf")) {
          return Fail(ErrorCode::kNotFound, "{}: no config.json in this directory; give a GGUF file in it, e.g. {}",
                      directory, PrintableName(name));
        }
      }
    }
    return Fail(ErrorCode::kNotFound,
                "{}: no config.json in this directory (a model is a .gguf file or a Hugging Face directory)",
                directory);
  }
  FATHOM_TRY(tokenizer_.tokenizer_json, ReadIfThere(env, JoinPath(directory, "tokenizer.json"), kMaxTokenizerBytes));
  FATHOM_CHECK_OK(ReadTokenizerTexts(env, directory, tokenizer_));
  auto config = ConfigFromHuggingFace(tokenizer_.config_json, BaseName(directory));
  if (!config) return Prefix(config.error(), config_path);
  config_ = std::move(config).value();

  Shards shards;
  const std::string index_path = JoinPath(directory, "model.safetensors.index.json");
  if (env.Exists(index_path)) {
    FATHOM_TRY(const std::string text, ReadWholeFile(env, index_path, kMaxIndexBytes));
    auto read = ReadIndex(text);
    if (!read) return Prefix(read.error(), index_path);
    shards = std::move(read).value();
  } else {
    shards.names = {"model.safetensors"};
    if (!env.Exists(JoinPath(directory, shards.names[0])) &&
        (env.Exists(JoinPath(directory, "pytorch_model.bin")) ||
         env.Exists(JoinPath(directory, "pytorch_model.bin.index.json")))) {
      return Fail(ErrorCode::kUnsupported, "{}: has PyTorch weights (pytorch_model.bin); fathom reads safetensors",
                  directory);
    }
  }
  for (size_t i = 0; i < shards.names.size(); ++i) {
    const std::string path = JoinPath(directory, shards.names[i]);
    if (!env.Exists(path)) {
      return Fail(ErrorCode::kNotFound, "{}: file {} of {} with weights is missing", path, i + 1, shards.names.size());
    }
    files_.push_back(path);
  }
  for (size_t i = 0; i < files_.size(); ++i) FATHOM_CHECK_OK(LoadShard(env, files_[i], i, shards));

  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);  // unique: by index, or one file
  for (const auto& [tensor, shard] : shards.tensor_to_shard) {
    if (!index_.contains(tensor)) {
      return Fail(ErrorCode::kCorrupt, "{}: lacks tensor {}, which the index places there", files_[shard],
                  PrintableName(tensor));
    }
  }
  if (tensors_.empty()) return Fail(ErrorCode::kCorrupt, "{}: has no tensors", files_.front());
  return {};
}

}  // namespace

Result<std::unique_ptr<ModelFile>> OpenHuggingFaceModel(Env& env, const std::string& directory) {
  auto model = std::make_unique<HuggingFaceModel>();
  FATHOM_CHECK_OK(model->Load(env, directory));
  return model;
}

Result<TokenizerSource> OpenHuggingFaceTokenizer(Env& env, const std::string& path) {
  TokenizerSource source;
  const bool is_directory = env.IsDirectory(path);
  const std::string file = is_directory ? JoinPath(path, "tokenizer.json") : path;
  if (!env.Exists(file)) {
    for (const char* other : {"tokenizer.model", "tiktoken.model"}) {
      if (env.Exists(JoinPath(path, other))) {
        return Fail(ErrorCode::kUnsupported, "{}: has {} but no tokenizer.json, which fathom needs", path, other);
      }
    }
    return Fail(ErrorCode::kNotFound, "{}: no such file", file);
  }
  FATHOM_TRY(source.tokenizer_json, ReadWholeFile(env, file, kMaxTokenizerBytes));
  if (source.tokenizer_json.empty()) return Fail(ErrorCode::kCorrupt, "{}: is empty", file);
  if (is_directory || BaseName(file) == "tokenizer.json") {
    FATHOM_CHECK_OK(ReadTokenizerTexts(env, DirectoryOf(file), source));
  }
  return source;
}

}  // namespace fathom

#include "train/torch/ops.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <atomic>

#include "train/torch/cpu_kernels.h"

namespace fathom::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

std::atomic<bool> fused_on{true};

bool UseFused(const Tensor& x) {
  return fused_on && x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

/// Calls fn with a null pointer of the element type: float or Bf16.
template <typename Fn>
decltype(auto) WithType(at::ScalarType type, Fn&& fn) {
  if (type == at::kBFloat16) return fn(static_cast<Bf16*>(nullptr));
  TORCH_CHECK(type == at::kFloat, "fused kernels know f32 and bf16");
  return fn(static_cast<float*>(nullptr));
}

template <typename T>
T* Data(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

/// Rows may stand apart, but a row is dense.
Tensor RowDense(const Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

constexpr int64_t kGrain = 64;  // rows to a piece of parallel work

/// Pieces whose number does not depend on the threads, so that sums over them come out the same.
constexpr int64_t kSumPieces = 16;

// ---- Linear

class LinearFn : public torch::autograd::Function<LinearFn> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& w) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor narrow = w.to(x.scalar_type());
    ctx->save_for_backward({x, narrow});
    return at::matmul(x, narrow.t());
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor g = grads[0].contiguous();
    return {at::matmul(g, saved[1]), at::matmul(g.t(), saved[0]).to(at::kFloat)};
  }
};

// ---- Norm

class RmsNormFn : public torch::autograd::Function<RmsNormFn> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& input, const Variable& weight, double eps,
                          int64_t out_type) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor x = RowDense(input);
    const int64_t rows = x.size(0), width = x.size(1), stride = x.stride(0);
    Tensor out = at::empty({rows, width}, x.options().dtype(static_cast<at::ScalarType>(out_type)));
    Tensor rstd = at::empty({rows}, x.options().dtype(at::kFloat));
    WithType(out.scalar_type(), [&]<typename T>(T*) {
      at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
        const auto run = [&](auto* in, auto kernel) {
          kernel(in + begin * stride, stride, Data<float>(weight), static_cast<float>(eps), end - begin, width,
                 Data<T>(out) + begin * width, Data<float>(rstd) + begin);
        };
        if (x.scalar_type() == at::kFloat) run(Data<float>(x), Kernels<T>().rms_norm_f32);
        else run(Data<T>(x), Kernels<T>().rms_norm);
      });
    });
    ctx->save_for_backward({x, weight, rstd});
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &rstd = saved[2], g = grads[0].contiguous();
    const int64_t rows = x.size(0), width = x.size(1), stride = x.stride(0);
    Tensor dx = at::empty({rows, width}, x.options());
    Tensor dweight = at::zeros({kSumPieces, width}, weight.options());
    const int64_t piece = (rows + kSumPieces - 1) / kSumPieces;
    WithType(g.scalar_type(), [&]<typename T>(T*) {
      at::parallel_for(0, kSumPieces, 1, [&](int64_t first, int64_t last) {
        for (int64_t p = first; p < last; ++p) {
          const int64_t begin = std::min(rows, p * piece), count = std::min(rows, begin + piece) - begin;
          const auto run = [&](auto* in, auto* d, auto kernel) {
            kernel(Data<T>(g) + begin * width, in + begin * stride, stride, Data<float>(weight),
                   Data<float>(rstd) + begin, count, width, d + begin * width, Data<float>(dweight) + p * width);
          };
          if (x.scalar_type() == at::kFloat) run(Data<float>(x), Data<float>(dx), Kernels<T>().rms_norm_backward_f32);
          else run(Data<T>(x), Data<T>(dx), Kernels<T>().rms_norm_backward);
        }
      });
    });
    return {dx, dweight.sum(0), {}, {}};
  }
};

// ---- SwiGLU

class SwiGluFn : public torch::autograd::Function<SwiGluFn> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& input) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor gate_up = input.contiguous();
    ctx->save_for_backward({gate_up});
    return Forward(gate_up, {});
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return {Backward(grads[0].contiguous(), ctx->get_saved_variables()[0], {}).first};
  }
  // scale: one factor a row, or undefined.
  static Tensor Forward(const Tensor& gate_up, const Tensor& scale) {
    const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
    Tensor out = at::empty({rows, width}, gate_up.options());
    WithType(gate_up.scalar_type(), [&]<typename T>(T*) {
      at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
        Kernels<T>().swiglu(Data<T>(gate_up) + begin * 2 * width,
                            scale.defined() ? Data<float>(scale) + begin : nullptr, end - begin, width,
                            Data<T>(out) + begin * width);
      });
    });
    return out;
  }
  static std::pair<Tensor, Tensor> Backward(const Tensor& grad, const Tensor& gate_up, const Tensor& scale) {
    const int64_t rows = gate_up.size(0), width = gate_up.size(1) / 2;
    Tensor d = at::empty_like(gate_up);
    Tensor dscale = scale.defined() ? at::empty_like(scale) : Tensor();
    WithType(gate_up.scalar_type(), [&]<typename T>(T*) {
      at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
        Kernels<T>().swiglu_backward(Data<T>(grad) + begin * width, Data<T>(gate_up) + begin * 2 * width,
                                     scale.defined() ? Data<float>(scale) + begin : nullptr, end - begin, width,
                                     Data<T>(d) + begin * 2 * width,
                                     scale.defined() ? Data<float>(dscale) + begin : nullptr);
      });
    });
    return {d, dscale};
  }
};

// ---- Residual

class AddResidualFn : public torch::autograd::Function<AddResidualFn> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& residual, const Variable& update) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->saved_data["type"] = static_cast<int64_t>(update.scalar_type());
    return at::add(residual, update);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return {grads[0], grads[0].to(static_cast<at::ScalarType>(ctx->saved_data["type"].toInt()))};
  }
};

// ---- Rope

class RopeFn : public torch::autograd::Function<RopeFn> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& x, int64_t rope_dim, const Variable& cos,
                          const Variable& sin) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["dim"] = rope_dim;
    return Rotate(x, rope_dim, cos, sin, 1.0f);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    return {Rotate(grads[0], ctx->saved_data["dim"].toInt(), saved[0], saved[1], -1.0f), {}, {}, {}};
  }

 private:
  static Tensor Rotate(const Tensor& x, int64_t dim, const Tensor& cos, const Tensor& sin, float sign) {
    Tensor out = x.clone(at::MemoryFormat::Contiguous);
    const int64_t rows = out.size(0), heads = out.size(1), width = out.size(2);
    WithType(out.scalar_type(), [&]<typename T>(T*) {
      at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          Kernels<T>().rope_row(Data<T>(out) + row * heads * width + width - dim, heads, width, dim,
                                Data<float>(cos) + row * dim / 2, Data<float>(sin) + row * dim / 2, sign);
        }
      });
    });
    return out;
  }
};

// ---- Attention

class AttentionFn : public torch::autograd::Function<AttentionFn> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& q_in, const Variable& k_in, const Variable& v_in,
                          double scale, const std::vector<int64_t>& doc_begin) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor q = q_in.contiguous(), k = k_in.contiguous(), v = v_in.contiguous();
    Tensor out = at::empty_like(v);
    Tensor log_sum = at::empty({q.size(1), q.size(0)}, q.options().dtype(at::kFloat));
    ForTasks(q, k, v, scale, doc_begin, out, log_sum, [](auto task, const auto& kernels, float* work, int64_t) {
      kernels.attention(task, work);
    });
    ctx->save_for_backward({q, k, v, out, log_sum});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["docs"] = doc_begin;
    return out;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], g = grads[0].contiguous();
    Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
    ForTasks(q, k, v, ctx->saved_data["scale"].toDouble(), ctx->saved_data["docs"].toIntVector(), saved[3], saved[4],
             [&]<typename T>(AttentionTask<T> task, const CpuKernels<T>& kernels, float* work, int64_t) {
               task.grad = Data<T>(g) + (task.out - Data<T>(saved[3]));
               task.dq = Data<T>(dq) + (task.q - Data<T>(q));
               task.dk = Data<T>(dk) + (task.k - Data<T>(k));
               task.dv = Data<T>(dv) + (task.v - Data<T>(v));
               kernels.attention_backward(task, work);
             });
    return {dq, dk, dv, {}, {}};
  }

 private:
  template <typename Fn>
  static void ForTasks(const Tensor& q, const Tensor& k, const Tensor& v, double scale,
                       const std::vector<int64_t>& docs, const Tensor& out, const Tensor& log_sum, Fn&& fn) {
    const int64_t heads = q.size(1), qk_dim = q.size(2), v_dim = v.size(2), rows = q.size(0);
    const int64_t count = static_cast<int64_t>(docs.size()) - 1;
    int64_t longest = 0;
    for (int64_t d = 0; d < count; ++d) longest = std::max(longest, docs[d + 1] - docs[d]);
    WithType(q.scalar_type(), [&]<typename T>(T*) {
      at::parallel_for(0, count * heads, 1, [&](int64_t begin, int64_t end) {
        std::vector<float> work(AttentionWork(longest, qk_dim, v_dim));
        for (int64_t i = begin; i < end; ++i) {
          const int64_t first = docs[i / heads], tokens = docs[i / heads + 1] - first, head = i % heads;
          if (tokens == 0) continue;
          AttentionTask<T> task{.tokens = tokens, .qk_dim = qk_dim, .v_dim = v_dim,
                                .q = Data<T>(q) + (first * heads + head) * qk_dim,
                                .k = Data<T>(k) + (first * heads + head) * qk_dim,
                                .v = Data<T>(v) + (first * heads + head) * v_dim,
                                .q_stride = heads * qk_dim, .k_stride = heads * qk_dim, .v_stride = heads * v_dim,
                                .scale = static_cast<float>(scale),
                                .out = Data<T>(out) + (first * heads + head) * v_dim,
                                .out_stride = heads * v_dim,
                                .log_sum = Data<float>(log_sum) + head * rows + first};
          fn(task, Kernels<T>(), work.data(), i);
        }
      });
    });
  }
};

// ---- Experts

/// out[n] = sum over the k slots of token n of y[slot].
Tensor SumSlots(const Tensor& y, const Tensor& slots) {
  const int64_t rows = slots.size(0), k = slots.size(1), width = y.size(1);
  if (!UseFused(y)) return y.index_select(0, slots.reshape({-1})).view({rows, k, width}).sum(1);
  const Tensor narrow = slots.to(at::kInt).contiguous(), dense = y.contiguous();
  Tensor out = at::empty({rows, width}, y.options());
  WithType(y.scalar_type(), [&]<typename T>(T*) {
    at::parallel_for(0, rows, kGrain, [&](int64_t begin, int64_t end) {
      Kernels<T>().sum_slots(Data<T>(dense), Data<int32_t>(narrow) + begin * k, k, end - begin, width,
                             Data<T>(out) + begin * width);
    });
  });
  return out;
}

class ExpertsFn : public torch::autograd::Function<ExpertsFn> {
 public:
  // slot_weights: [S] f32, in slot order.
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& slot_weights, const Variable& rows,
                          const Variable& slots, const std::vector<int64_t>& begin, const Variable& gate_up,
                          const Variable& down) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Tensor wide = gate_up.to(x.scalar_type()), narrow = down.to(x.scalar_type());
    const Tensor xs = x.index_select(0, rows);
    Tensor hidden = at::empty({xs.size(0), wide.size(1)}, x.options());
    ForExperts(xs, begin, [&](int64_t e, int64_t first, int64_t count) {
      Tensor part = hidden.narrow(0, first, count);
      at::mm_out(part, xs.narrow(0, first, count), wide[e].t());
    });
    const Tensor act = SwiGluFn::Forward(hidden, slot_weights);
    Tensor y = at::empty_like(xs);
    ForExperts(xs, begin, [&](int64_t e, int64_t first, int64_t count) {
      Tensor part = y.narrow(0, first, count);
      at::mm_out(part, act.narrow(0, first, count), narrow[e].t());
    });
    ctx->save_for_backward({xs, slot_weights, rows, slots, wide, narrow, hidden});
    ctx->saved_data["begin"] = begin;
    return SumSlots(y, slots);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &xs = saved[0], &weights = saved[1], &rows = saved[2], &slots = saved[3], &wide = saved[4],
                 &narrow = saved[5], &hidden = saved[6];
    const auto begin = ctx->saved_data["begin"].toIntVector();
    const Tensor gs = grads[0].index_select(0, rows);
    const Tensor act = SwiGluFn::Forward(hidden, weights);
    Tensor dact = at::empty_like(act), ddown = at::zeros(narrow.sizes(), narrow.options().dtype(at::kFloat));
    ForExperts(xs, begin, [&](int64_t e, int64_t first, int64_t count) {
      const Tensor g = gs.narrow(0, first, count);
      Tensor part = dact.narrow(0, first, count);
      at::mm_out(part, g, narrow[e]);
      ddown[e].copy_(at::mm(g.t(), act.narrow(0, first, count)));
    });
    const auto [dhidden, dweights] = SwiGluFn::Backward(dact, hidden, weights);
    Tensor dxs = at::empty_like(xs), dwide = at::zeros(wide.sizes(), wide.options().dtype(at::kFloat));
    ForExperts(xs, begin, [&](int64_t e, int64_t first, int64_t count) {
      const Tensor d = dhidden.narrow(0, first, count);
      Tensor part = dxs.narrow(0, first, count);
      at::mm_out(part, d, wide[e]);
      dwide[e].copy_(at::mm(d.t(), xs.narrow(0, first, count)));
    });
    return {SumSlots(dxs, slots), dweights, {}, {}, {}, dwide, ddown};
  }

 private:
  // On the host, threads take whole experts: no thread waits for another inside a product.
  template <typename Fn>
  static void ForExperts(const Tensor& x, const std::vector<int64_t>& begin, Fn&& fn) {
    const int64_t experts = static_cast<int64_t>(begin.size()) - 1;
    const auto some = [&](int64_t first, int64_t last) {
      at::AutoDispatchBelowADInplaceOrView guard;  // threads have states of their own
      at::NoGradGuard no_grad;
      for (int64_t e = first; e < last; ++e) {
        if (const int64_t count = begin[e + 1] - begin[e]; count > 0) fn(e, begin[e], count);
      }
    };
    if (x.device().is_cpu()) at::parallel_for(0, experts, 1, some);
    else some(0, experts);
  }
};

// ---- Head

class HeadLossFn : public torch::autograd::Function<HeadLossFn> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& hidden, const Variable& head, const Variable& targets) {
    at::AutoDispatchBelowADInplaceOrView guard;
    constexpr int64_t kPiece = 1024;
    const int64_t rows = hidden.size(0), vocab = head.size(0);
    const Tensor narrow = head.to(hidden.scalar_type());
    const Tensor ids = targets.to(at::kInt).contiguous();
    Tensor dhidden = at::empty(hidden.sizes(), hidden.options());
    Tensor dhead = at::zeros(head.sizes(), head.options());
    double loss = 0;
    for (int64_t begin = 0; begin < rows; begin += kPiece) {
      const int64_t count = std::min(kPiece, rows - begin);
      const Tensor x = hidden.narrow(0, begin, count);
      Tensor logits = at::mm(x, narrow.t());
      loss += CrossEntropy(logits, ids.narrow(0, begin, count), targets.narrow(0, begin, count), vocab);
      Tensor part = dhidden.narrow(0, begin, count);
      at::mm_out(part, logits, narrow);
      dhead.add_(at::mm(logits.t(), x));
    }
    ctx->save_for_backward({dhidden, dhead});
    return at::full({}, loss, head.options());
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const double scale = grads[0].item<double>();
    return {saved[0] * scale, saved[1] * scale, {}};
  }

 private:
  // Overwrites logits by their gradient.
  static double CrossEntropy(Tensor& logits, const Tensor& ids, const Tensor& targets, int64_t vocab) {
    const int64_t rows = logits.size(0);
    if (!UseFused(logits)) {
      const Tensor log_p = at::log_softmax(logits.to(at::kFloat), -1);
      const Tensor picked = log_p.gather(1, targets.unsqueeze(1));
      Tensor grad = log_p.exp();
      grad.scatter_add_(1, targets.unsqueeze(1), at::full({rows, 1}, -1.0, grad.options()));
      logits = grad.to(logits.scalar_type());
      return -picked.sum().item<double>();
    }
    constexpr int64_t kPieces = 16;
    std::array<double, kPieces> sums{};
    const int64_t piece = (rows + kPieces - 1) / kPieces;
    WithType(logits.scalar_type(), [&]<typename T>(T*) {
      at::parallel_for(0, kPieces, 1, [&](int64_t first, int64_t last) {
        for (int64_t p = first; p < last; ++p) {
          const int64_t begin = std::min(rows, p * piece), count = std::min(rows, begin + piece) - begin;
          sums[p] = Kernels<T>().cross_entropy(Data<T>(logits) + begin * vocab, Data<int32_t>(ids) + begin, count,
                                               vocab);
        }
      });
    });
    double sum = 0;
    for (const double s : sums) sum += s;
    return sum;
  }
};

// ---- Activation checkpointing

class CheckpointFn : public torch::autograd::Function<CheckpointFn> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& x,
                          const std::shared_ptr<std::function<Tensor(const Tensor&)>>& body) {
    ctx->save_for_backward({x});
    // A function cannot be saved on the context; the closure rides along in a capsule of its own.
    ctx->saved_data["body"] = c10::IValue::make_capsule(c10::make_intrusive<Body>(body));
    at::NoGradGuard no_grad;
    return (*body)(x);
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto body = c10::static_intrusive_pointer_cast<Body>(ctx->saved_data["body"].toCapsule());
    const Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_();
    Tensor y;
    {
      at::AutoGradMode grad_mode(true);
      y = (*body->fn)(x);
    }
    torch::autograd::backward({y}, {grads[0]});  // parameters accumulate here
    return {x.grad(), {}};
  }

 private:
  struct Body : torch::CustomClassHolder {
    explicit Body(std::shared_ptr<std::function<Tensor(const Tensor&)>> f) : fn(std::move(f)) {}
    std::shared_ptr<std::function<Tensor(const Tensor&)>> fn;
  };
};

}  // namespace

void SetFusedKernels(bool on) { fused_on = on; }
bool FusedKernels() { return fused_on; }

Tensor Linear(const Tensor& x, const Tensor& w) {
  // Doubles go the composed way: the rounding to f32 in the fused gradient would hide what a check looks for.
  if (x.scalar_type() == at::kDouble) return at::matmul(x, w.t());
  return LinearFn::apply(x.contiguous(), w);
}

Tensor Embed(const Tensor& table, const Tensor& ids) { return at::embedding(table, ids); }

Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps, at::ScalarType out) {
  const bool known = x.scalar_type() == at::kFloat || x.scalar_type() == out;  // there is no loop from bf16 to f32
  if (UseFused(x) && known) return RmsNormFn::apply(x, weight, eps, static_cast<int64_t>(out));
  const Tensor wide = x.scalar_type() == at::kDouble ? x : x.to(at::kFloat);
  return (wide * at::rsqrt(wide.square().mean(-1, true) + eps) * weight).to(out);
}

Tensor SwiGlu(const Tensor& gate_up, const Tensor& scale) {
  if (UseFused(gate_up) && !scale.defined()) return SwiGluFn::apply(gate_up);
  const int64_t width = gate_up.size(-1) / 2;
  const Tensor act = at::silu(gate_up.narrow(-1, 0, width)) * gate_up.narrow(-1, width, width);
  return scale.defined() ? act * scale.unsqueeze(-1).to(act.scalar_type()) : act;
}

Tensor AddResidual(const Tensor& residual, const Tensor& update) {
  if (residual.scalar_type() == update.scalar_type()) return residual + update;
  return AddResidualFn::apply(residual, update);
}

Tensor RopeTail(const Tensor& x, int64_t rope_dim, const Tensor& cos, const Tensor& sin) {
  if (UseFused(x)) return RopeFn::apply(x, rope_dim, cos, sin);
  const int64_t keep = x.size(-1) - rope_dim;
  const Tensor tail = x.narrow(-1, keep, rope_dim).unflatten(-1, {rope_dim / 2, 2});
  const Tensor a = tail.select(-1, 0), b = tail.select(-1, 1);
  const Tensor c = cos.unsqueeze(1).to(x.scalar_type()), s = sin.unsqueeze(1).to(x.scalar_type());
  const Tensor turned = at::stack({a * c - b * s, a * s + b * c}, -1).flatten(-2);
  return keep == 0 ? turned : at::cat({x.narrow(-1, 0, keep), turned}, -1);
}

Tensor DocumentAttention(const Tensor& q, const Tensor& k, const Tensor& v, double scale,
                         const std::vector<int64_t>& doc_begin) {
  if (UseFused(q)) return AttentionFn::apply(q, k, v, scale, doc_begin);
  std::vector<Tensor> parts;
  for (size_t d = 0; d + 1 < doc_begin.size(); ++d) {
    const int64_t begin = doc_begin[d], n = doc_begin[d + 1] - begin;
    if (n == 0) continue;
    const auto heads_first = [&](const Tensor& x) { return x.narrow(0, begin, n).transpose(0, 1); };
    const Tensor future = at::ones({n, n}, q.options().dtype(at::kBool)).triu(1);
    const Tensor scores = (at::matmul(heads_first(q), heads_first(k).transpose(1, 2)) * scale)
                              .masked_fill(future, -std::numeric_limits<double>::infinity());
    parts.push_back(at::matmul(at::softmax(scores, -1), heads_first(v)).transpose(0, 1));
  }
  return at::cat(parts, 0);
}

ExpertGroups GroupByExpert(const Tensor& choices, int64_t experts) {
  const int64_t tokens = choices.size(0), k = choices.size(1);
  ExpertGroups groups;
  // Counted on the host: the sizes of the products must be known there anyway.
  const Tensor host = choices.to(at::kCPU).contiguous();
  const int64_t* ids = host.data_ptr<int64_t>();
  groups.begin.assign(experts + 1, 0);
  for (int64_t i = 0; i < tokens * k; ++i) ++groups.begin[ids[i] + 1];
  for (int64_t e = 0; e < experts; ++e) {
    groups.begin[e + 1] = groups.begin[e] + (groups.begin[e + 1] + kSlotMultiple - 1) / kSlotMultiple * kSlotMultiple;
  }
  std::vector<int64_t> next(groups.begin.begin(), groups.begin.end() - 1);
  Tensor rows = at::zeros({groups.begin.back()}, host.options()), slots = at::empty({tokens, k}, host.options());
  for (int64_t i = 0; i < tokens * k; ++i) {
    const int64_t slot = next[ids[i]]++;
    rows.data_ptr<int64_t>()[slot] = i / k;
    slots.data_ptr<int64_t>()[i] = slot;
  }
  groups.rows = rows.to(choices.device());
  groups.slots = slots.to(choices.device());
  return groups;
}

Tensor GroupedExperts(const Tensor& x, const Tensor& weights, const ExpertGroups& groups, const Tensor& gate_up,
                      const Tensor& down) {
  // Weights in slot order; left-over slots weigh nothing.
  const Tensor flat = groups.slots.reshape({-1});
  const Tensor slot_weights =
      at::zeros({groups.rows.size(0)}, weights.options()).scatter(0, flat, weights.reshape({-1}));
  if (UseFused(x)) {
    return ExpertsFn::apply(x.contiguous(), slot_weights, groups.rows, groups.slots, groups.begin, gate_up, down);
  }
  const Tensor xs = x.index_select(0, groups.rows);
  std::vector<Tensor> parts;
  for (size_t e = 0; e + 1 < groups.begin.size(); ++e) {
    const int64_t first = groups.begin[e], count = groups.begin[e + 1] - first;
    if (count == 0) continue;
    const Tensor act = SwiGlu(Linear(xs.narrow(0, first, count), gate_up.select(0, static_cast<int64_t>(e))),
                              slot_weights.narrow(0, first, count));
    parts.push_back(Linear(act, down.select(0, static_cast<int64_t>(e))));
  }
  if (parts.empty()) return x * 0.0;  // no tokens at all
  return SumSlots(at::cat(parts, 0), groups.slots);
}

Tensor HeadLoss(const Tensor& hidden, const Tensor& head, const Tensor& targets) {
  if (hidden.size(0) == 0) return (hidden.sum() + head.sum()) * 0.0;
  if (hidden.scalar_type() == at::kDouble) {
    return at::nll_loss(at::log_softmax(Linear(hidden, head), -1), targets, {}, at::Reduction::Sum);
  }
  return HeadLossFn::apply(hidden.contiguous(), head, targets);
}

Tensor Checkpointed(const std::function<Tensor(const Tensor&)>& body, const Tensor& x) {
  return CheckpointFn::apply(x, std::make_shared<std::function<Tensor(const Tensor&)>>(body));
}

}  // namespace fathom::train

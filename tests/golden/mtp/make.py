#!/usr/bin/env python3
"""Makes nano.json: what the MTP layer of fathom-nano says, computed in f32 with PyTorch from the dequantised weights.

    python3 tests/golden/mtp/make.py models/fathom-nano/fathom-nano-q8_0.gguf ids.json tests/golden/mtp/nano.json

ids.json: a list of token ids (`fathom tokenize --ids --bos`). Written from DeepSeek-V3's report (arXiv 2412.19437, 2.1 and
2.2), attention in its plain form. Needs torch and gguf. h_i is the state after the last norm, eh_proj takes the
embedding's half first; both losses go to stderr: the layer's (two tokens on) is near the model's own only if both are right.
"""
import sys, json, math, torch, numpy as np
from gguf import GGUFReader, dequantize
r=GGUFReader(sys.argv[1]); T={t.name: torch.tensor(dequantize(t.data,t.tensor_type).copy()).reshape(tuple(int(x) for x in reversed(t.shape))) for t in r.tensors}
F={}
for k,f in r.fields.items():
    if k.startswith('deepseek2.'): F[k[10:]]=f.contents()
L=F['block_count']-1; H=F['embedding_length']; heads=F['attention.head_count']; qk=F['attention.key_length_mla']; vd=F['attention.value_length_mla']; rank=F['attention.kv_lora_rank']; rd=F['rope.dimension_count']; eps=F['attention.layer_norm_rms_epsilon']; nope=qk-rd; K=F['expert_used_count']; E=F['expert_count']
def norm(x,w,e=eps): return x*torch.rsqrt((x*x).mean(-1,keepdim=True)+e)*w
def rope(x,pos): # x [n,...,rd] interleaved pairs
    f=1/(F['rope.freq_base']**(torch.arange(0,rd,2).float()/rd)); a=pos[:,None]*f; c,s=a.cos(),a.sin()
    while c.dim()<x.dim(): c=c.unsqueeze(1); s=s.unsqueeze(1)
    e,o=x[...,0::2],x[...,1::2]; out=torch.empty_like(x); out[...,0::2]=e*c-o*s; out[...,1::2]=e*s+o*c; return out
def lin(x,w): return x@w.T
def block(x,b,pos):
    n=x.shape[0]; g=lambda s: T[f'blk.{b}.{s}']
    h=norm(x,g('attn_norm.weight')); q=lin(norm(lin(h,g('attn_q_a.weight')),g('attn_q_a_norm.weight'),1e-6),g('attn_q_b.weight')).view(n,heads,qk)
    kv=lin(h,g('attn_kv_a_mqa.weight')); c=norm(kv[:,:rank],g('attn_kv_a_norm.weight'),1e-6); kpe=rope(kv[:,rank:],pos)
    qn,qp=q[...,:nope],rope(q[...,nope:],pos)
    kb,vb=g('attn_k_b.weight'),g('attn_v_b.weight') # [heads,rank,nope],[heads,vd,rank]
    k=torch.einsum('nr,hrd->nhd',c,kb); v=torch.einsum('nr,hvr->nhv',c,vb)
    s=(torch.einsum('ihd,jhd->hij',qn,k)+torch.einsum('ihd,jd->hij',qp,kpe))/math.sqrt(qk)
    s=s+torch.full((n,n),-1e30).triu(1); o=torch.einsum('hij,jhv->ihv',s.softmax(-1),v).reshape(n,-1)
    x=x+lin(o,g('attn_output.weight')); h=norm(x,g('ffn_norm.weight')); silu=torch.nn.functional.silu
    if f'blk.{b}.ffn_gate_inp.weight' not in T: return x+lin(silu(lin(h,g('ffn_gate.weight')))*lin(h,g('ffn_up.weight')),g('ffn_down.weight'))
    sc=lin(h,g('ffn_gate_inp.weight')).sigmoid(); idx=(sc+g('exp_probs_b.bias')).topk(K,-1).indices; w=sc.gather(1,idx); w=w/(w.sum(-1,keepdim=True)+1e-20)*F['expert_weights_scale']
    y=lin(silu(lin(h,g('ffn_gate_shexp.weight')))*lin(h,g('ffn_up_shexp.weight')),g('ffn_down_shexp.weight'))
    for i in range(n):
        for j in range(K):
            e=idx[i,j]; y[i]+=w[i,j]*lin(silu(lin(h[i],g('ffn_gate_exps.weight')[e]))*lin(h[i],g('ffn_up_exps.weight')[e]),g('ffn_down_exps.weight')[e])
    return x+y
def run(ids):
    pos=torch.arange(len(ids)).float(); x=T['token_embd.weight'][ids]
    for b in range(L): x=block(x,b,pos)
    h=norm(x,T['output_norm.weight']); main=lin(h,T['output.weight'])
    nxt=torch.tensor(list(ids[1:])); hh=h[:-1]
    x=torch.cat([norm(T['token_embd.weight'][nxt],T[f'blk.{L}.nextn.enorm.weight']),norm(hh,T[f'blk.{L}.nextn.hnorm.weight'])],-1)
    x=lin(x,T[f'blk.{L}.nextn.eh_proj.weight']); x=block(x,L,pos[:-1]); m=norm(x,T[f'blk.{L}.nextn.shared_head_norm.weight'])
    return main, lin(m,T['output.weight'])
ids=json.load(open(sys.argv[2]))
with torch.no_grad(): main,mtp=run(torch.tensor(ids))
nll=lambda lg,t: float(torch.nn.functional.cross_entropy(lg,t))
t=torch.tensor(ids); print('nll main',nll(main[:-1],t[1:]),'mtp',nll(mtp[:-1],t[2:]), file=sys.stderr)
out={'ids':ids,'mtp_argmax':mtp.argmax(-1).tolist(),'mtp_last':[round(float(v),4) for v in mtp[-1]], 'mtp_mid':[round(float(v),4) for v in mtp[len(ids)//2]]}
json.dump(out,open(sys.argv[3],'w'))

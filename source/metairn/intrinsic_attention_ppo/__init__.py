"""PPO with learned credit on RLlib's new API stack: the only room that knows Ray RLlib."""

from metairn.intrinsic_attention_ppo.algorithm import IntrinsicAttentionPPO
from metairn.intrinsic_attention_ppo.config import IntrinsicAttentionPPOConfig

__all__ = ["IntrinsicAttentionPPO", "IntrinsicAttentionPPOConfig"]

"""Which way the scores of the field are better, by their names; a name that is not known stays so."""

import re

_FALLING_NAMES = """
    loss error err nll mse rmse mae mape smape msle rmsle msd ece mce ace brier perplexity ppl bpb bpc
    wer cer ter per mer der eer error_rate fid kid lpips latency hamming hamming_loss hinge rse rae
    log_loss cross_entropy deviance distance chamfer hausdorff hd95 edit_distance epe rmsd regret
    crps pinball false_positive_rate fpr false_negative_rate fnr bits_per_byte bits_per_char
    nloglik mphe l1 l2 kullback_leibler kl_divergence
    over_confidence negative_log_likelihood logloss mlogloss merror
"""
_RISING_NAMES = """
    accuracy acc precision recall sensitivity specificity npv f1 fbeta dice iou miou jaccard auroc auc
    roc_auc pr_auc auprc aucpr average_precision map ap ar mrr ndcg hit_rate mcc kappa r2 pearson spearman
    kendall explained_variance exact_match em bleu sacrebleu chrf meteor rouge rouge1 rouge2 rougel
    rougelsum cider spice psnr ssim ms_ssim inception_score reward success_rate win_rate tpr tnr
    true_positive_rate true_negative_rate pck pass_rate throughput log_likelihood hits
"""
_NAMES_AT_END = "macro micro weighted samples mean avg average ms s us percent pct"
_FALLING = frozenset(_FALLING_NAMES.split())
_RISING = frozenset(_RISING_NAMES.split())
_AT_END = frozenset(_NAMES_AT_END.split())
_TURNS = frozenset({"neg", "negative", "minus", "inverse", "inv", "non", "anti"})


def direction(name: str) -> bool | None:
    """Whether a higher value of a score is better; None where its name does not tell.

    Words in front, as a split or a data set, do not count: the longest known end of the name does.

    Example:
        >>> direction("val/wer"), direction("test/f1/macro"), direction("val/my_index")
        (False, True, None)
    """
    parts = [part for part in re.split(r"[/_\s.:-]+", name.lower()) if part]
    while len(parts) > 1 and (parts[-1] in _AT_END or re.fullmatch(r"@?\d+", parts[-1])):
        parts.pop()
    for start in range(len(parts)):
        if start and parts[start - 1] in _TURNS:
            return None
        end = re.sub(r"(@\d+|^top-?\d+|\d+$)", "", "_".join(parts[start:]))
        for word in ("_".join(parts[start:]), end):
            if word in _FALLING:
                return False
            if word in _RISING:
                return True
    return None

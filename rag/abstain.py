from dataclasses import dataclass
@dataclass(frozen=True)
class Judgement:
    confidence: float
    cosine: float
    coverage: float
    threshold: float
    abstains: bool
def judge(ranked):
    c=max((s.cosine for s in ranked),default=0); v=max((s.coverage for s in ranked),default=0)
    return Judgement((c+v)/2,c,v,0.25,(c+v)/2<0.25)

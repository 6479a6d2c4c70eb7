from charrnn import Scorer

scores = Scorer.load("pretrained").score(["Nguyễn", "O'Brien", None])
assert scores["status"].to_list() == ["scored", "scored", "unscored"], scores
